# rows.csv: animal (from 1), time, sex, y of `records` in test_related_residuals; L.csv: Cholesky factor of the relationship
library(nlme)
d<-read.csv("rows.csv"); L<-as.matrix(read.csv("L.csv",header=FALSE)); dimnames(L)<-NULL
d<-d[order(d$animal,d$time),]; d$id<-factor(d$animal); d$one<-factor(1)
A<-L[d$animal,]; I<-diag(nrow(L))[d$animal,]
options(digits=10)
for(method in c("REML","ML")){
 m<-lme(y~time+sex,d,random=list(one=pdBlocked(list(pdIdent(~A-1),pdIdent(~I-1)))),
  correlation=corAR1(form=~time|one/id),method=method,control=lmeControl(msTol=1e-12,tolerance=1e-10,returnObject=TRUE,maxIter=200,msMaxIter=500))
 print(logLik(m),digits=12); print(VarCorr(m)[c("A1","I1","Residual"),]); print(coef(m$modelStruct$corStruct,unconstrained=FALSE),digits=9); print(summary(m)$tTable,digits=9)
 b<-as.numeric(ranef(m)); print((L%*%b[1:nrow(L)])[1:3],digits=9)
}
