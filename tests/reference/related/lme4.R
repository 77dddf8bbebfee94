# rows.csv: animal (from 1), sex, y of the test's `sows`; L.csv: Cholesky factor of the relationship
library(lme4); library(Matrix)
d<-read.csv("rows.csv"); L<-as.matrix(read.csv("L.csv",header=FALSE)); dimnames(L)<-NULL
d$animal<-factor(d$animal,levels=1:200); d$id<-factor(as.integer(as.character(d$animal)))
one<-function(f, reml){
 ctrl<-lmerControl(check.nobs.vs.nlev="ignore",check.nobs.vs.nRE="ignore",optimizer="bobyqa",optCtrl=list(rhoend=1e-10))
 p<-lFormula(f,d,REML=reml,control=ctrl)
 k<-which(names(p$reTrms$Ztlist)=="1 | animal")
 have<-as.integer(rownames(p$reTrms$Ztlist[[k]])); Z<-t(as.matrix(p$reTrms$Ztlist[[k]]))
 A<-L%*%t(L); R<-chol(A[have,have])
 new<-Matrix(R%*%t(Z),sparse=TRUE); new<-as(new,"dgCMatrix")
 p$reTrms$Ztlist[[k]]<-new; p$reTrms$Zt<-do.call(rbind,p$reTrms$Ztlist)
 dev<-do.call(mkLmerDevfun,c(p,list(control=ctrl))); o<-optimizeLmer(dev,optimizer="bobyqa",control=list(rhoend=1e-12))
 m<-mkMerMod(environment(dev),o,p$reTrms,fr=p$fr)
 print(logLik(m),digits=12); print(as.data.frame(VarCorr(m))[,c("grp","sdcor")],digits=10); print(summary(m)$coefficients,digits=9)
 b<-ranef(m,condVar=FALSE)$animal[[1]]; u<-as.vector(t(R)%*%b); cat(have[c(1,50,150)],format(u[c(1,50,150)],digits=9),"\n")
}
options(digits=12)
one(y~sex+(1|animal)+(1|id),TRUE); one(y~sex+(1|animal),TRUE); one(y~sex+(1|animal)+(1|id),FALSE)
